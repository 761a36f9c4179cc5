"""Noise and samplers: objectives, schedules of sigma, samplers, guidance; pure tensor functions."""
