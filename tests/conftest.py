"""Property tests draw the same examples every time; `--hypothesis-profile explore` looks for new ones."""

from hypothesis import settings

settings.register_profile("repeat", max_examples=40, derandomize=True, database=None, deadline=None)
settings.register_profile("explore", max_examples=500, deadline=None)
settings.load_profile("repeat")
