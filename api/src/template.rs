//! Go text/template with sprig.
