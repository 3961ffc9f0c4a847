"""Operations: a readable reference each, and what runs instead of it."""
