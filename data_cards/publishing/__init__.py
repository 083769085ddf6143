"""Check what is about to be published, and bring it to the Hub."""
