"""A folder of pictures and captions, from the disk to what training sees. Never imports torch.

What lies there
    scan         a folder's chosen pictures, and what is wrong with it       fingerprint  one hash for all of it
    layout       where folders keep pictures, captions and masks             kohya, metadata, archives  others' ways
    names        names that every system takes                               choice       kept, rejected, undecided
    captions     one caption file to text; the trigger word                  rights, origin, c2pa  whose, from where
Pixels
    images       one file to one upright sRGB picture; cover and crop        colour       any mode and profile to sRGB
    framing      which part is kept, at what size                            saliency, faces, borders  where to cut
    masks        how much each part counts                                   masking      making masks
Changes
    journal      edits that can be taken back: everything else here that writes, writes through it
    adding, exporting, reframing, renaming                                   pool         on all cores
Judgement
    survey       every picture measured once, kept in the cache              measures, alike, duplicates
    checks       what is wrong with the pictures                             wording      what is wrong with captions
    findings     why it matters and what mends it                            provenance   what files say of where from
    sheet, shown contact sheets
    picking      filters, varied and balanced picks
What training sees
    buckets      which size each picture is trained at, and the batches      split        trained on, or held out
    prepared     all of the above, per picture, as trained
"""
