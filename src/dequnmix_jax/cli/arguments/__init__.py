"""Arguments of the commands, without the commands: `parser` puts them together.

* `words`: from the words of an argument to its value. `common`: one command, its output and what most commands share.
* `reading`: the scene. `training`: of a model. `spectra`: known spectra, libraries, and how they unmix.
* `models`, `scenes`, `results`, `program`: the commands in four groups.
"""
