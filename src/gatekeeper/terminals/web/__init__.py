"""HTTP: translate, call the service, translate back; and the pages.

routes.py      `/terminals`, `/shares`, `/profiles`     watch.py     waiting, and the stream
reports.py     what runners tell                        translate.py   wire to values, and back
page/          what a browser gets
"""
