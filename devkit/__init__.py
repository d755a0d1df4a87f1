"""The dev kit: what demo and tests need beside the product.  The product never imports it."""
