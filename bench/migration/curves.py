def draw(lab, arguments):
    raise NotImplementedError
