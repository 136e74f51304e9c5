"""How fast ByteChat is, beside others under the same load: ``python -m bench --help``."""
