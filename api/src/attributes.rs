//! The volume attributes that a Pod may set.
