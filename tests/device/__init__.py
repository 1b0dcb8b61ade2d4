"""pawlatch on a Raspberry Pi's processor, emulated: `python -m tests.device`."""
