"""The use cases, one a file: a typed request in, a typed report out. Commands and the Python API call these.

prepare.py     what a use case works on: network, weights, data, hardware, device
convert.py     a trained network -> an SNN, what it scores, and the files of both (files.py)
evaluate.py    what a network, its quantized form and its SNN score; simulate.py does it for a saved SNN
train.py       a network and data -> a checkpoint
check.py       a network -> every limit of a chip that it breaks
inspect.py     a network or an SNN -> its graph, node by node
analyse.py     a network -> where its conversion loses accuracy
compare_modes.py  a network -> its accuracy after every step for each way of setting thresholds
neuron.py      one neuron -> its rate, spikes and potential
pack.py        an SNN and samples -> a vector pack
export.py      an SNN -> the formats of others
verify.py      a vector pack -> what independent twins say of it; diff.py compares two

report.py, folders.py, latency.py, hardware.py, damage.py and saved.py hold what several of them share.
"""
