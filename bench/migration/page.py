def update(files):
    raise NotImplementedError
