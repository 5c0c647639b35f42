"""The published procedure for one training curve with top eigenvalues, as a baseline to time against.

Separate train-loss, test-loss and gradient passes through a DataLoader every step; every `eig_freq` steps ARPACK from a
cold start at machine precision on Hessian-vector products by double backward. Written for timing, not for use.

    run(module, train, test, lr, steps, neigs, eig_freq, abridged=5000, batch=1000) -> dict
`train` and `test` are (inputs, one-hot targets); mse loss. Returns losses, eigs, and CPU seconds by part.
"""

import time

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.nn.utils import parameters_to_vector
from torch.utils.data import DataLoader, TensorDataset


def run(module, train, test, lr, steps, neigs, eig_freq, abridged=5000, batch=1000):
    params, clock = list(module.parameters()), {"train": 0.0, "test": 0.0, "gradient": 0.0, "eigs": 0.0}
    losses, eigs, products = [], [], 0

    def batches(data, limit=None):
        return DataLoader(TensorDataset(data[0][:limit], data[1][:limit]), batch_size=batch)

    def mean_loss(data):
        with torch.no_grad():
            return sum((0.5 * (module(x) - y).square().sum() / len(data[0])).item() for x, y in batches(data))

    def hessian_product(vector):
        nonlocal products
        products += 1
        v, n, total = torch.tensor(vector, dtype=torch.float32).reshape(-1), min(abridged, len(train[0])), 0.0
        for x, y in batches(train, abridged):
            grads = torch.autograd.grad(0.5 * (module(x) - y).square().sum() / n, params, create_graph=True)
            total = total + parameters_to_vector(torch.autograd.grad(parameters_to_vector(grads) @ v, params))
        return total.detach().numpy()

    def timed(part, work):
        start = time.process_time()
        out = work()
        clock[part] += time.process_time() - start
        return out

    def descend():
        for p in params:
            p.grad = None
        for x, y in batches(train):
            (0.5 * (module(x) - y).square().sum() / len(train[0])).backward()
        with torch.no_grad():
            for p in params:
                p.sub_(lr * p.grad)

    dim = sum(p.numel() for p in params)
    for step in range(steps):
        losses.append(timed("train", lambda: mean_loss(train)))
        timed("test", lambda: mean_loss(test))
        if step % eig_freq == 0:
            operator = LinearOperator((dim, dim), matvec=hessian_product, dtype=np.float32)
            eigs.append(timed("eigs", lambda: eigsh(operator, neigs, which="LA")[0][::-1].copy()))
        timed("gradient", descend)
    return {"losses": losses, "eigs": eigs, "seconds": clock, "products": products}
