"""BILLmanager's module as BILLmanager calls it."""
