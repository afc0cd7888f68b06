"""The places that names lead to: workers read the links and look at the devices."""
