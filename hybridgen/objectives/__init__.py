"""Objectives: losses, regularisers and their schedules, as functions of tensors."""
