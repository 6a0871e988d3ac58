"""Alarms: from what a model says moment by moment to what somebody should be woken for, and how good that is."""
