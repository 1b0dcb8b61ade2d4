"""What `pawlatch SUBCOMMAND` runs: argument parsing and everything that is printed."""
