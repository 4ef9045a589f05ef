"""The composition root: configuration, journal, fleet, passes, guards, command line."""
