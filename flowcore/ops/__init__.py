"""The operators, a file each idea; what a file's `__all__` names is a public function of flowcore."""
