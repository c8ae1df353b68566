"""The command line, one module per command.

`main` finds the command and reports a failure in one sentence; `parser` declares all options, `options` holds their
typed records, `config_file` reads `--config`, `workflow` holds the steps that several commands share.
"""
