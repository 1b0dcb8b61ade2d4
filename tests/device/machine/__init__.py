"""A whole machine, emulated: kernel, systemd, camera, pin and pawlatch's service: `python -m tests.device.machine`."""
