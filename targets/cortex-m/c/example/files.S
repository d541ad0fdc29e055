/* What lies in flash beside the program: plans and adapters start at 16-byte boundaries. */
.macro file name, path
    .section .rodata.\name, "a"
    .balign 16
    .global \name
    .global \name\()_end
\name:
    .incbin "\path"
\name\()_end:
.endm

file base_plan, "base.plan"
file laboratory_adapter, "laboratory.adapter"
file learned_adapter, "learned.adapter"
file base_output, "base.out"
file examples, "examples"
file held_out, "held_out"
