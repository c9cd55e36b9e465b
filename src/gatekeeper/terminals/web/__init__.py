"""The routes of `/terminals`, and the page."""
