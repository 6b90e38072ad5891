"""Everything that makes weights: no study runs it, and no module outside this folder (but the command) imports it."""
