"""A small BILLmanager database and an OCS server emulator, for the demo, the tests and the benchmarks."""
