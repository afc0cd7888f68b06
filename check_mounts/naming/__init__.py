"""Where names lead: links and devices, read by workers."""
