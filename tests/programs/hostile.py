# ruff: noqa: E501
"""Hostile programs. Each returns the label `breach` when its attack on the host succeeded.

`{canary}` is a file, `{port}` a listening port on 127.0.0.1, `{victim}` a process of the same user, `{token}` a word that stands in
the host's environment and nowhere else.
"""

from __future__ import annotations

import textwrap

_CTYPES = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"

_BODIES: dict[str, str] = {
    # files ---------------------------------------------------------------------------------------------------------------
    "file_read": "open('{canary}').read()\nreturn 'breach'",
    "file_write": "open('{canary}', 'w').write('x')\nreturn 'breach'",
    "file_append_new": "open('{canary}.new', 'w').write('x')\nreturn 'breach'",
    "file_passwd": "return 'breach' if 'root' in open('/etc/passwd').read() else None",
    "file_os_open": "import os\nos.open('{canary}', os.O_RDONLY)\nreturn 'breach'",
    "file_list": "import os\nos.listdir('/')\nreturn 'breach'",
    "file_unlink": "import os\nos.unlink('{canary}')\nreturn 'breach'",
    "file_rename": "import os\nos.rename('{canary}', '{canary}.moved')\nreturn 'breach'",
    "file_mkdir": "import os\nos.mkdir('{canary}.folder')\nreturn 'breach'",
    "file_symlink": "import os\nos.symlink('/etc/passwd', '{canary}.link')\nreturn 'breach'",
    "file_chmod": "import os\nos.chmod('{canary}', 0o777)\nreturn 'breach'",
    "file_io_module": "import io\nio.open('{canary}').read()\nreturn 'breach'",
    "file_pathlib": "from pathlib import Path\nPath('{canary}').read_text()\nreturn 'breach'",
    "file_proc_environ": (
        "import os\nreturn 'breach' if b'{token}' in open('/proc/%d/environ' % os.getppid(), 'rb').read() else None"
    ),
    "file_proc_mem": "open('/proc/self/mem', 'rb').read(1)\nreturn 'breach'",
    "file_raw_open": _CTYPES + "return 'breach' if libc.open(b'{canary}', 0) >= 0 else None",
    "file_raw_write": _CTYPES + "return 'breach' if libc.open(b'{canary}.raw', 0o101, 0o600) >= 0 else None",
    "file_memfd_exec": _CTYPES + "return 'breach' if libc.memfd_create(b'x', 0) >= 0 else None",
    # environment and memory of others ------------------------------------------------------------------------------------
    "env_token": "import os\nreturn 'breach' if '{token}' in str(dict(os.environ)) else None",
    "env_other_texts": "import gc\nreturn 'breach' if any('{token}' in o for o in gc.get_objects() if type(o) is str) else None",
    "ptrace_victim": _CTYPES + "return 'breach' if libc.ptrace(16, {victim}, 0, 0) == 0 else None",
    "vm_read_victim": _CTYPES + (
        "buf = ctypes.create_string_buffer(16)\nclass V(ctypes.Structure):\n    _fields_ = [('b', ctypes.c_void_p), ('n', ctypes.c_size_t)]\n"
        "l = V(ctypes.addressof(buf), 16)\nr = V(0x400000, 16)\n"
        "return 'breach' if libc.process_vm_readv({victim}, ctypes.byref(l), 1, ctypes.byref(r), 1, 0) > 0 else None"
    ),
    # network -------------------------------------------------------------------------------------------------------------
    "net_socket": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)\nreturn 'breach'",
    "net_low_socket": "import _socket\ns = _socket.socket(2, 1)\ns.connect(('127.0.0.1', {port}))\nreturn 'breach'",
    "net_raw_socket": _CTYPES + "return 'breach' if libc.socket(2, 1, 0) >= 0 else None",
    "net_unix_socket": _CTYPES + "return 'breach' if libc.socket(1, 1, 0) >= 0 else None",
    "net_netlink": _CTYPES + "return 'breach' if libc.socket(16, 3, 0) >= 0 else None",
    "net_urllib": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}').read()\nreturn 'breach'",
    # processes and signals -----------------------------------------------------------------------------------------------
    "proc_system": "import os\nreturn 'breach' if os.system('touch {canary}.sh') == 0 else None",
    "proc_popen": "import subprocess\nsubprocess.run(['touch', '{canary}.sp'], check=True)\nreturn 'breach'",
    "proc_fork": "import os\npid = os.fork()\nif pid == 0:\n    os._exit(0)\nreturn 'breach'",
    "proc_fork_bomb": "import os\nwhile True:\n    os.fork()",
    "proc_exec": "import os\nos.execv('/bin/touch', ['touch', '{canary}.exec'])",
    "proc_limit_victim": _CTYPES + (
        "b = ctypes.create_string_buffer(bytes([1, 0, 0, 0, 0, 0, 0, 0]) * 2)\n"
        "return 'breach' if libc.syscall(302, {victim}, 0, b, None) == 0 else None"
    ),
    "proc_read_victims_limit": _CTYPES + (
        "b = ctypes.create_string_buffer(16)\nreturn 'breach' if libc.syscall(302, {victim}, 7, None, b) == 0 else None"
    ),
    "proc_slow_victim": _CTYPES + "return 'breach' if libc.setpriority(0, {victim}, 19) == 0 else None",
    "proc_slow_user": _CTYPES + "import os\nlibc.setpriority(2, os.getuid(), 19)",
    "proc_io_priority_victim": _CTYPES + "return 'breach' if libc.syscall(251, 1, {victim}, 0x6000) == 0 else None",
    "proc_affinity_victim": _CTYPES + (
        "b = ctypes.create_string_buffer(b'\\x01' + b'\\0' * 127)\nreturn 'breach' if libc.syscall(203, {victim}, 128, b) == 0 else None"
    ),
    "proc_scheduler_victim": _CTYPES + (
        "b = ctypes.create_string_buffer(4)\nreturn 'breach' if libc.syscall(144, {victim}, 5, b) == 0 else None"
    ),
    "proc_scheduler_attributes_victim": _CTYPES + (
        "b = ctypes.create_string_buffer(bytes([48, 0, 0, 0, 5]) + bytes(43))\nreturn 'breach' if libc.syscall(314, {victim}, b, 0) == 0 else None"
    ),
    "proc_pidfd_victim": _CTYPES + "return 'breach' if libc.syscall(434, {victim}, 0) >= 0 else None",
    "proc_tgkill_victim": _CTYPES + "return 'breach' if libc.syscall(234, {victim}, {victim}, 0) == 0 else None",
    "proc_limit_parent": _CTYPES + (
        "import os\nb = ctypes.create_string_buffer(16)\nlibc.syscall(302, os.getppid(), 6, b, None)\n"
        "libc.syscall(302, os.getppid(), 9, b, None)\nlibc.syscall(302, os.getppid(), 0, b, None)\nreturn None"
    ),
    "proc_slow_parent": _CTYPES + "import os\nlibc.setpriority(0, os.getppid(), 19)\nlibc.syscall(144, os.getppid(), 5, ctypes.create_string_buffer(4))",
    "proc_kill_victim": "import os\nos.kill({victim}, 9)\nreturn 'breach'",
    "proc_kill_parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nreturn 'breach'",
    "proc_kill_all": "import os\nos.kill(-1, 9)\nreturn 'breach'",
    "proc_kill_group": "import os\nos.killpg(os.getpgid(0), 9)\nreturn 'breach'",
    "proc_raw_clone": _CTYPES + "return 'breach' if libc.syscall(56, 17, 0, 0, 0, 0) > 0 else None",
    "proc_raw_kill": _CTYPES + "return 'breach' if libc.kill({victim}, 9) == 0 else None",
    "proc_unshare": _CTYPES + (
        "libc.unshare(0x10000000 | 0x00020000)\n"
        "return 'breach' if libc.mount(b'none', b'/', b'tmpfs', 0, 0) == 0 or libc.sethostname(b'x', 1) == 0 else None"
    ),
    "proc_mount": _CTYPES + "return 'breach' if libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0) == 0 else None",
    "proc_setuid": "import os\nos.setuid(0)\nreturn 'breach' if os.getuid() == 0 and open('/etc/shadow') else None",
    "proc_reboot": _CTYPES + "return 'breach' if libc.reboot(0x89abcdef) == 0 else None",
    "thread_start": "import _thread\nhits = []\n_thread.start_new_thread(lambda: hits.append(open('{canary}')), ())\nreturn None",
    "thread_flood": "import threading\nfor i in range(200):\n    threading.Thread(target=lambda: [0] * 10**6, daemon=True).start()",
    # introspection: class, frame, format and import walks ----------------------------------------------------------------
    "walk_subclasses": (
        "for c in ().__class__.__base__.__subclasses__():\n    if c.__name__ == '_wrap_close':\n"
        "        return 'breach' if c.__init__.__globals__['system']('touch {canary}.w') == 0 else None"
    ),
    "walk_frame": "import sys\nf = sys._getframe()\nwhile f.f_back:\n    f = f.f_back\nf.f_globals['os'].unlink('{canary}')\nreturn 'breach'",
    "walk_generator": "g = (x for x in [1])\ng.gi_frame.f_back.f_globals['open']('{canary}')\nreturn 'breach'",
    "walk_traceback": (
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n"
        "    e.__traceback__.tb_frame.f_builtins['open']('{canary}')\n    return 'breach'"
    ),
    "walk_modules": "import re\nreturn 'breach' if re.enum.sys.modules['os'].system('touch {canary}.m') == 0 else None",
    "walk_builtins": "__builtins__['__import__']('os').unlink('{canary}')\nreturn 'breach'",
    "walk_getattr": "return 'breach' if getattr(getattr(label, '__globals__')['__builtins__'], 'open')('{canary}') else None",
    "walk_format": "s = '{{0.__class__.__init__.__globals__}}'.format(label)\nreturn 'breach' if '{token}' in s else None",
    "walk_format_map": "s = '{{f.__globals__}}'.format_map({{'f': label}})\nreturn 'breach' if '{token}' in s else None",
    "walk_formatter": "import string\ns = string.Formatter().vformat('{{0.__globals__}}', (label,), {{}})\nreturn 'breach' if '{token}' in s else None",
    "walk_attrgetter": "import operator\ng = operator.attrgetter('__globals__')(label)\ng['__builtins__']['open']('{canary}')\nreturn 'breach'",
    "walk_match": "match label:\n    case object(__globals__=g):\n        g['__builtins__']['open']('{canary}')\n        return 'breach'",
    "walk_error_obj": "try:\n    label.nothing\nexcept AttributeError as e:\n    e.obj.__globals__['__builtins__']['open']('{canary}')\n    return 'breach'",
    "walk_importlib": "import importlib\nimportlib.import_module('os').unlink('{canary}')\nreturn 'breach'",
    "walk_eval": "eval(\"__import__('os').unlink('{canary}')\")\nreturn 'breach'",
    "walk_exec": "exec(\"import os; os.unlink('{canary}')\")\nreturn 'breach'",
    "walk_compile": "import types\nf = types.FunctionType(compile('import os', 'x', 'exec'), {{}})\nf()\nopen('{canary}')\nreturn 'breach'",
    "walk_pickle": "import pickle\npickle.loads(b\"cos\\nsystem\\n(S'touch {canary}.p'\\ntR.\")\nimport os\nos.stat('{canary}.p')\nreturn 'breach'",
    # integrity -----------------------------------------------------------------------------------------------------------
    "patch_len": "import builtins\nbuiltins.len = lambda x: 0\nreturn 'good'",
    "patch_re": "import re\nre.search = lambda *a: 1\nreturn 'good'",
    "patch_str_method": "import ctypes\nd = ctypes.pythonapi.PyObject_GenericGetDict\nd.restype = ctypes.py_object\nreturn 'good'",
    "patch_counter": "import collections\ncollections.Counter.update = None\nreturn 'good'",
    "patch_rows": "import sys\nf = sys._getframe(1)\nf.f_locals['out'][0] = 7\nreturn 'good'",
    "patch_rows_all": "import sys\nout = sys._getframe(1).f_locals['out']\nfor i in range(len(out)):\n    out[i] = 123456\nreturn 'good'",
    "patch_recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(n):\n    return f(n + 1)\nreturn f(0)",
    "patch_signals": "import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nwhile True:\n    pass",
    "value_fake_str": "class S(str):\n    def __eq__(self, other):\n        return True\n    def __hash__(self):\n        return hash('breach')\nreturn S('x')",
    "value_fake_int": "class I(int):\n    def __index__(self):\n        return 1\nreturn I(0)",
    "value_hash_bomb": "class H:\n    def __hash__(self):\n        while True:\n            pass\nreturn H()",
    "value_fake_type": "class M(type):\n    @property\n    def __name__(cls):\n        while True:\n            pass\nclass T(metaclass=M):\n    pass\nreturn T()",
    "value_huge_int": "return 10 ** 40",
    "value_nested": "x = []\nfor i in range(10**6):\n    x = [x]\nreturn x",
    "raise_side_effect": "class E(Exception):\n    def __str__(self):\n        open('{canary}', 'w')\n        return 'x'\n    __repr__ = __str__\nraise E()",
    "raise_del_loop": "class D:\n    def __del__(self):\n        while True:\n            pass\nD()\nreturn 'good'",
    "raise_base": "raise BaseException('x')",
    "raise_keyboard": "raise KeyboardInterrupt",
    "raise_exit": "raise SystemExit(0)",
    "raise_group": "raise ExceptionGroup('x', [ValueError(str(i)) for i in range(10**5)])",
    "catch_everything": "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
    "catch_finally": "while True:\n    try:\n        while True:\n            pass\n    finally:\n        continue",
    "exit_now": "import os\nos._exit(0)",
    "exit_sys": "import sys\nsys.exit(3)",
    "exit_abort": "import os\nos.abort()",
    "flood_print": "for i in range(10**7):\n    print('x' * 1000)",
    "flood_stderr": "import sys\nfor i in range(10**7):\n    sys.stderr.write('x' * 1000)",
    "flood_status": "import os\nfor fd in range(3, 64):\n    try:\n        while True:\n            os.write(fd, b'{{\"row\": 0}}\\n' * 1000)\n    except OSError:\n        pass",
    "forge_status": "import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'{{\"done\": true}}\\n')\n    except OSError:\n        pass\nos._exit(0)",
    "hidden_state": "label.seen = getattr(label, 'seen', 0) + 1\nreturn 'good' if label.seen % 2 else None",
    # CPU, memory, recursion, regex, huge integers ------------------------------------------------------------------------
    "cpu_loop": "while True:\n    pass",
    "cpu_c_loop": "return sum(range(10**14))",
    "cpu_count": "import itertools\nreturn sum(itertools.count())",
    "cpu_sort": "return sorted(range(10**8), key=lambda x: -x)",
    "cpu_bigint": "return 7 ** 10 ** 9",
    "cpu_str_int": "return int('9' * 4000) ** 4000 ** 3",
    "cpu_regex": "import re\nreturn re.match('(a+)+$', 'a' * 60 + 'b')",
    "cpu_regex_alternation": "import re\nreturn re.match('(a|a)*$', 'a' * 60 + 'b')",
    "cpu_regex_overlap": "import re\nreturn re.match('(.*,){{20}}x', 'a,' * 60)",
    "cpu_regex_compile": "import re\nreturn re.compile('(' * 90 + 'a' + '){{1,99}}' * 90)",
    "cpu_sleep": "import time\ntime.sleep(10**6)",
    "cpu_select": "import select\nselect.select([], [], [], 10**6)",
    "memory_string": "return 'x' * 10**12",
    "memory_list": "x = []\nwhile True:\n    x.append('x' * 10**6 + str(len(x)))",
    "memory_dict": "d = {{}}\nwhile True:\n    d[len(d)] = [0] * 1000",
    "memory_replace": "s = 'ab'\nwhile True:\n    s = s.replace('a', s)",
    "memory_bigint": "return 1 << (10**12)",
    "memory_mmap": "import mmap\nreturn mmap.mmap(-1, 10**11)",
    "recursion_plain": "return label(text)",
    "recursion_repr": "x = []\nx.append(x)\nd = x\nfor i in range(10**5):\n    d = [d]\nreturn repr(d)",
    "recursion_dealloc": "i = iter(())\nimport itertools\nfor _ in range(10**6):\n    i = itertools.chain(i, ())\nreturn None",
    "recursion_json": "import json\nreturn json.loads('[' * 10**6)",
    "crash_null": "import ctypes\nctypes.string_at(0)",
    "crash_exec_memory": "import ctypes\nf = ctypes.CFUNCTYPE(ctypes.c_int)(0)\nf()",
    "crash_gc": "import gc\nfor o in gc.get_objects():\n    try:\n        o.clear()\n    except Exception:\n        pass",
}  # fmt: skip

_WHOLE: dict[str, str] = {
    "load_loop": "while True:\n    pass\ndef label(text):\n    return 'good'",
    "load_memory": "X = [0] * 10**11\ndef label(text):\n    return 'good'",
    "load_exit": "import os\nos._exit(0)\ndef label(text):\n    return 'good'",
    "load_parens": "x = " + "(" * 5000 + ")" * 5000 + "\ndef label(text):\n    return 'good'",
    "load_minus": "x = " + "-" * 100_000 + "1\ndef label(text):\n    return 'good'",
    "load_nul": "def label(text):\n    return 'good'\0",
    "load_surrogate": "def label(text):\n    return '\ud800'",
    "load_huge": "X = '" + "x" * 2_000_000 + "'\ndef label(text):\n    return 'good'",
    "load_constant": "X = 9 ** 9 ** 9\ndef label(text):\n    return 'good'",
    "load_decorator": "@(lambda f: open('{canary}', 'w'))\ndef label(text):\n    return 'good'",
    "load_default": "def label(text, x=open('{canary}', 'w')):\n    return 'breach'",
    "load_annotation": "SEEN = []\ndef label(text: SEEN.append(open('{canary}', 'w'))):\n    return 'breach' if SEEN else None",
    "load_class_body": "class A:\n    open('{canary}', 'w')\ndef label(text):\n    return 'breach'",
    "load_star": "from os import *\ndef label(text):\n    unlink('{canary}')\n    return 'breach'",
    "load_lambda": "label = lambda text: open('{canary}') and 'breach'",
    "load_generator": "def label(text):\n    yield 'breach'",
    "load_async": "async def label(text):\n    return 'breach'",
    "load_no_label": "x = 1",
    "load_label_is_type": "label = type",
    "load_empty": "",
}


def programs(**places: object) -> dict[str, str]:
    """Name to source, the places filled in."""
    found = {}
    for name, body in _BODIES.items():
        found[name] = "def label(text):\n" + textwrap.indent(body.format(**places), "    ")
    for name, source in _WHOLE.items():
        found[name] = source.replace("{canary}", str(places["canary"]))
    return found
