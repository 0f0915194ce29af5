"""Figures: functions of arrays and tables that draw on an ``ax`` and return it; they know no params."""
