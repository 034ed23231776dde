"""A small world, made by our own code, in which the whole method can be trained, measured and shown.

render.py draws its invented people; captions.py says what is seen; what is trained and measured in it uses the
ordinary trainers and files. Nothing outside this folder knows of it.
"""
