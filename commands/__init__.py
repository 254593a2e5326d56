"""The subcommands of `referee`: parse, call, print."""
