/* What boards differ in: here, a machine of QEMU. */
#ifndef BOARD_H
#define BOARD_H

/* Says a text to whom listens: a debugger's console here, a UART elsewhere. */
void say(const char *text);

/* Says a text, a number and the end of a line. */
void say_number(const char *text, unsigned number);

/* Tells the emulator whether all went well. */
_Noreturn void finish(int passed);

#endif
