"""What a picture's C2PA manifests ("content credentials") say of it: told, not vouched for.

    embedded     where each picture format keeps its manifest store
    boxes        the store's boxes: manifests, their claims and assertions
    cbor         the numbers-and-names format most of them are written in
    telling      what they say: program, kind, author, licence

Neither signatures nor hashes are checked: that takes certificates, dates and a list of whom to trust, and anybody can
sign. What is read here is what a file says of itself, as EXIF does. Every size is bounded before memory is spent,
and what is broken says nothing.

Source: C2PA Technical Specification 2.2, https://spec.c2pa.org; JUMBF is ISO/IEC 19566-5, CBOR RFC 8949.
"""
