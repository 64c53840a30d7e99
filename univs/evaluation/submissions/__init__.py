"""Writers of the files that evaluation servers and official evaluators read.

Every writer works on one video or image, so that workers can share a folder; what a benchmark keeps in one
JSON file is returned per video and written once at the end. Files appear whole or not at all.
"""
