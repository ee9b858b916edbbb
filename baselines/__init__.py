"""Published attribution methods, one a file, each a `captum.attr.Attribution`.

May import `cci_captum`; nothing in `cci_captum` imports from here.
"""
