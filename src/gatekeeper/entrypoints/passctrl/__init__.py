"""`passctrl`: forward auth by itself. The same commands as `gk forwardauth`."""
