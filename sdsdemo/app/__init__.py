"""What page, shell and Python share: the workbench, visitors' jobs, the list of runs, uploads."""
