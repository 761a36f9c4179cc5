"""Recipes of other trainers, carried over into ours: every setting arrives, or is listed with the reason why not.

Read are the files of kohya-ss/sd-scripts and bmaltais' interface to it, kohya-ss/musubi-tuner, ostris/ai-toolkit and
Nerogar/OneTrainer. What one of them does without being told is carried over too where it is done differently here.
"""
