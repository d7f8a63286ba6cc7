"""What the unit tests share: how hypothesis looks for examples."""

import hypothesis

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("mirabelle", deadline=None)
hypothesis.settings.load_profile("mirabelle")
