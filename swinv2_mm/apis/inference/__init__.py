"""What tools/infer.py and tools/web_demo.py share: a model that is ready to look at things.

sources: what the command line names -> what is to be read; models: config and checkpoint -> a
`Predictor`, by the Inferencer of its library (det, seg, cls, video); tiles: large pictures in
parts; windows: the window of a built model; results: files that are whole or not there.
"""
