"""The adapters that come with Referee, a folder each; code about adapters is in `models`."""
