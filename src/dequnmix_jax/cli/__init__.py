"""The command line: `main` finds the command and says its failure in one sentence; one module for each command.

`parser` declares all options, `config_file` reads `--config`, `workflow` holds the steps that several commands share.
"""
