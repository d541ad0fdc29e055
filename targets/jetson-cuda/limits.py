"""What a compiled image may not exceed, read from its bytes: build.py --check asks."""

import struct

# Bytes of a thread in local memory: arguments of calls stand there, a record of parameters among them, and sums that a register had no room for
# would not fit.
LOCAL = 384
# Registers of a thread, of 255: what needs more is about to spill.
REGISTERS = 248
# Opcodes of instructions, in the low bits of each.
IMMA, HMMA, IDP = 0x237, 0x23C, 0x226
OPCODE = (1 << 12) - 1
INSTRUCTION = 16
# In the section `.nv.info`: records of four bytes and what follows, the size of a thread's frame and its registers among them.
SIZED, FRAME, COUNT = 4, 0x11, 0x2F


def sections(image):
    """Name, offset and length of every section of an ELF file."""
    first, count, names = (struct.unpack_from(form, image, at)[0] for form, at in (("<Q", 0x28), ("<H", 0x3C), ("<H", 0x3E)))
    found = [struct.unpack_from("<IIQQQQ", image, first + 64 * index) for index in range(count)]
    for name, _, _, _, offset, length in found:
        yield text(image, found[names][4] + name), offset, length


def text(image, at):
    return image[at : image.index(b"\0", at)].decode()


def told(image, parts, what):
    """What the compiler says of every kernel: FRAME, bytes of local memory, or COUNT, registers."""
    (table, size), (strings, _), (at, length) = (parts[name] for name in (".symtab", ".strtab", ".nv.info"))
    end = at + length
    while at < end:
        form, kind, rest = struct.unpack_from("<BBH", image, at)
        if (form, kind) == (SIZED, what):
            symbol, value = struct.unpack_from("<II", image, at + 4)
            assert 24 * symbol < size, "a symbol past the table"
            yield text(image, strings + struct.unpack_from("<I", image, table + 24 * symbol)[0]), value
        at += 4 + (rest if form == SIZED else 0)


def wanted(kernel, tensor_cores):
    """The instruction that a kernel is written around."""
    if kernel.startswith(("qconv_", "dynamic_conv_")):
        return IMMA if tensor_cores else IDP
    half = kernel.startswith(("conv_f16_", "matmul_f16_")) and not kernel.endswith("_rows")
    return HMMA if half and tensor_cores else None


def addressed(text):
    """Kernels of PTX that take the address of their parameters, in words: these would be read from memory, one load after the other."""
    for part in text.split(b".entry ")[1:]:
        if b"cvta.param" in part:
            yield f"{part.split(b'(')[0].decode()} takes the address of its parameters"


def broken(image, tensor_cores):
    """What is beyond the limits, in words."""
    parts = {name: (offset, length) for name, offset, length in sections(image)}
    registers = dict(told(image, parts, COUNT))
    for kernel, frame in told(image, parts, FRAME):
        # Functions that kernels call are listed too.
        if f".text.{kernel}" not in parts:
            continue
        if frame > LOCAL:
            yield f"{kernel} keeps {frame} bytes of a thread in local memory, more than {LOCAL}"
        if registers[kernel] > REGISTERS:
            yield f"{kernel} takes {registers[kernel]} registers, more than {REGISTERS}"
        offset, length = parts[f".text.{kernel}"]
        codes = (struct.unpack_from("<Q", image, offset + at)[0] & OPCODE for at in range(0, length, INSTRUCTION))
        opcode = wanted(kernel, tensor_cores)
        if opcode is not None and opcode not in codes:
            yield f"{kernel} has no instruction {opcode:#x}"
