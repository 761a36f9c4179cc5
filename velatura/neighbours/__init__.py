"""Other programs' folders of models, which are used without being named.

programs     which folders there are, in the places where people put these programs
comfy_paths  the further folders that ComfyUI was told of
"""
