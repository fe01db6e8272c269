"""Remove error streams (warnings, paths of one machine) from the saved outputs of all notebooks

And name the kernel, so that JupyterLab need not ask.
"""

from fastcore.nbio import read_nb, write_nb
from nbdev.config import get_config
from nbdev.doclinks import nbglob

KERNEL = dict(display_name='python3', language='python', name='python3')


def tidy(nb):
    "A notebook without error streams and with its kernel's name; whether that changed it"
    before = str(nb)
    for c in nb.cells:
        if c.cell_type == 'code':
            c.outputs = [o for o in c.outputs if o.get('name') != 'stderr']
    nb.metadata.pop('jupytext', None)
    nb.metadata['kernelspec'] = KERNEL
    return str(nb) != before


if __name__ == '__main__':
    for p in sorted(nbglob(get_config().nbs_path, as_path=True)):
        if tidy(nb := read_nb(p)):
            write_nb(nb, p)
            print('tidied', p.name)
