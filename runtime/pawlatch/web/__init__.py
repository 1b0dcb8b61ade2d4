"""The page: the door on a phone. Its parts are imported by those who serve it, and cost a door without a page nothing."""
