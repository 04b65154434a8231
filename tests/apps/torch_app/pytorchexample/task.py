"""pytorchexample: a network with batch normalisation, so that its state holds int64 counters."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

FEATURES, CLASSES = 8, 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(FEATURES, 16)
        self.norm = nn.BatchNorm1d(16)
        self.fc2 = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.fc2(torch.relu(self.norm(self.fc1(x))))


def load_data(partition_id: int, num_partitions: int, batch_size: int):
    generator = torch.Generator().manual_seed(partition_id)
    x = torch.randn(64, FEATURES, generator=generator)
    y = (x.sum(dim=1) > 0).long() + (x[:, 0] > 1).long()
    train = DataLoader(TensorDataset(x[:48], y[:48]), batch_size=batch_size, shuffle=True)
    return train, DataLoader(TensorDataset(x[48:], y[48:]), batch_size=batch_size)


def train(net, loader, epochs, lr, device):
    net.to(device)
    criterion = nn.CrossEntropyLoss().to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    running = 0.0
    for _ in range(epochs):
        for features, labels in loader:
            optimizer.zero_grad()
            loss = criterion(net(features.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            running += loss.item()
    return running / (epochs * len(loader))


def test(net, loader, device):
    net.to(device)
    net.eval()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for features, labels in loader:
            outputs = net(features.to(device))
            loss += nn.functional.cross_entropy(outputs, labels.to(device)).item()
            correct += (outputs.argmax(1) == labels.to(device)).sum().item()
    return loss / len(loader), correct / len(loader.dataset)
