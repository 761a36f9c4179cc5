"""A folder of pictures and captions, from the disk to what training sees. Never imports torch.

scan         what lies in a folder, and what is wrong with it
images       one file to one upright sRGB picture; cover and crop
colour       any mode and profile to 8-bit sRGB
captions     one caption file to text; the trigger word
buckets      which size each picture is trained at, and the batches of an epoch
duplicates   pictures that are nearly the same
split        what is trained on and what is held out
fingerprint  one hash for pictures and captions
prepared     all of the above, per picture, as trained
"""
