"""`pmnextcloud`: the processing module that BILLmanager calls, one process a command.

Start reading at `reconciler.panel.entry`. Nothing here decides about an account: commands on services run the
same pass as the daemon, over the same journal.
"""
