"""The data handed to MMAction2 1.2.0: data set, loading, scores and configurations for its own Runner (`make mmaction2`).

Nothing else here imports this room, or MMAction2. Naming one of its modules in `custom_imports` is enough: this file comes first
and puts right what keeps MMAction2 from running beside current packages.
"""

from thermal_action.mmaction2.shims import install

install()
