/* A keyword spotter in C: it hears a clip, switches adapters, is given bad ones, and learns a head from 50 clips. Every
 * output and the file that is learned must be the host's, byte for byte. */
#include "board.h"
#include "ingraft.h"
#include "model.h"

/* A file in flash: see files.S. */
#define FILE_IN_FLASH(name) extern const uint8_t name[], name##_end[]
#define LENGTH(name) ((size_t)(name##_end - name))
FILE_IN_FLASH(base_plan);
FILE_IN_FLASH(laboratory_adapter);
FILE_IN_FLASH(learned_adapter);
FILE_IN_FLASH(base_output);
FILE_IN_FLASH(examples);
FILE_IN_FLASH(held_out);

enum { STEPS = 60, CLIP_BYTES = 1 + WINDOW };

/* Memory of sessions and of the trainer, one after the other. The numbers are of model.h: the host knows them. */
static _Alignas(16) uint8_t memory[MEMORY_BYTES];
static _Alignas(16) uint8_t file[ADAPTER_BYTES];
static float window[WINDOW];
static float features[EXAMPLES][FEATURES];

static ingraft_plan plan;
static ingraft_session session;
static ingraft_trainer trainer;
static ingraft_adapter laboratory, learned;

/* Whether a call did as asked; says why not. */
static int ok(ingraft_status status) {
    if (status != INGRAFT_STATUS_OK) {
        say(ingraft_status_text(status));
        say("\n");
    }
    return status == INGRAFT_STATUS_OK;
}

/* Whether a call was refused for this reason; says it. */
static int refused(ingraft_status status, ingraft_status wanted) {
    say("refused, as it should be: ");
    say(ingraft_status_text(status));
    say("\n");
    return status == wanted;
}

static int equal(const uint8_t *left, const uint8_t *right, size_t len) {
    for (size_t at = 0; at < len; at++) {
        if (left[at] != right[at]) return 0;
    }
    return 1;
}

/* The values that the codes of a stored clip stand for; a clip is its class and its codes. */
static const uint8_t *hear(const uint8_t *clip) {
    for (size_t at = 0; at < WINDOW; at++) {
        window[at] = (float)((int8_t)clip[1 + at] - ZERO_POINT) * SCALE;
    }
    return (const uint8_t *)window;
}

static size_t largest(const float *logits, size_t count) {
    size_t best = 0;
    for (size_t at = 1; at < count; at++) {
        if (logits[at] > logits[best]) best = at;
    }
    return best;
}

static int run(const uint8_t *clip) {
    return ok(ingraft_write_input(&session, 0, hear(clip), sizeof window)) && ok(ingraft_run(&session));
}

/* Whether the base says of the first clip what it says on the host. */
static int base_is_the_hosts(void) {
    static float output[LOGITS];
    return ok(ingraft_switch(&session, 0)) && run(held_out) &&
           ok(ingraft_read_output(&session, 0, (uint8_t *)output, sizeof output)) &&
           LENGTH(base_output) == sizeof output && equal((const uint8_t *)output, base_output, sizeof output);
}

/* Clips to judge by that are right with an adapter; none where a call fails. */
static unsigned right_with(const ingraft_adapter *adapter) {
    unsigned right = 0;
    float logits[CLASSES];
    if (!ok(ingraft_switch(&session, adapter))) return 0;
    for (const uint8_t *clip = held_out; clip < held_out_end; clip += CLIP_BYTES) {
        if (!run(clip) || !ok(ingraft_read_logits(&session, logits, CLASSES))) return 0;
        right += largest(logits, CLASSES) == clip[0];
    }
    return right;
}

/* The sizes are the host's, and memory that is one byte too short is told. */
static int bind(void) {
    ingraft_plan_facts facts;
    size_t input, output;
    if (!ok(ingraft_plan_open(&plan, base_plan, LENGTH(base_plan))) ||
        !ok(ingraft_plan_describe(&plan, &facts)) || !ok(ingraft_plan_input(&plan, 0, &input)) ||
        !ok(ingraft_plan_output(&plan, 0, &output))) {
        return 0;
    }
    say_number("plan in flash, bytes ", LENGTH(base_plan));
    say_number("session, bytes ", facts.session_bytes);
    return facts.session_bytes <= MEMORY_BYTES && facts.features == FEATURES && input == sizeof window &&
           output == LOGITS * sizeof(float) &&
           refused(ingraft_session_bind(&session, &plan, memory, facts.session_bytes - 1),
                   INGRAFT_STATUS_MEMORY_TOO_SMALL) &&
           refused(ingraft_run(&session), INGRAFT_STATUS_NOT_BOUND) &&
           ok(ingraft_session_bind(&session, &plan, memory, facts.session_bytes));
}

/* Base, adapter, base; then a damaged adapter, which changes nothing. */
static int switches(void) {
    ingraft_adapter_facts facts;
    if (!base_is_the_hosts() ||
        !ok(ingraft_attach(&laboratory, &plan, laboratory_adapter, LENGTH(laboratory_adapter))) ||
        !ok(ingraft_adapter_describe(&laboratory, &facts)) || facts.classes != CLASSES) {
        return 0;
    }
    unsigned right = right_with(&laboratory);
    say_number("right with the laboratory's adapter ", right);
    for (size_t at = 0; at < LENGTH(laboratory_adapter); at++) file[at] = laboratory_adapter[at];
    file[LENGTH(laboratory_adapter) / 2] ^= 1;
    return right == RIGHT_WITH_LABORATORY &&
           refused(ingraft_attach(&learned, &plan, file, LENGTH(laboratory_adapter)),
                   INGRAFT_STATUS_ADAPTER_HASH) &&
           refused(ingraft_switch(&session, &learned), INGRAFT_STATUS_NOT_BOUND) && base_is_the_hosts();
}

/* Trains a head on the stored clips, in the memory of the session, and writes it as an adapter. */
static int learn(size_t *written) {
    const ingraft_training training = {.classes = CLASSES, .rate = 3e-2f, .weight_decay = 0.01f};
    static float room[CLASSES * (FEATURES + 1)];
    size_t bytes;
    if (!ok(ingraft_session_end(&session)) || !ok(ingraft_trainer_bytes(&plan, &training, &bytes)) ||
        bytes > MEMORY_BYTES || !ok(ingraft_trainer_bind(&trainer, &plan, &training, memory, bytes))) {
        return 0;
    }
    say_number("trainer, bytes ", bytes);
    for (size_t at = 0; at < EXAMPLES; at++) {
        const uint8_t *input = hear(examples + at * CLIP_BYTES);
        if (!ok(ingraft_trainer_features(&trainer, input, sizeof window, features[at], FEATURES)) ||
            !ok(ingraft_trainer_observe(&trainer, features[at], FEATURES))) {
            return 0;
        }
    }
    if (!ok(ingraft_trainer_standardize(&trainer))) return 0;
    for (unsigned step = 0; step < STEPS; step++) {
        for (size_t at = 0; at < EXAMPLES; at++) {
            size_t class = examples[at * CLIP_BYTES];
            if (!ok(ingraft_trainer_accumulate(&trainer, features[at], FEATURES, class, 0))) return 0;
        }
        if (!ok(ingraft_trainer_step(&trainer))) return 0;
    }
    return ok(ingraft_trainer_file_bytes(&trainer, LABELS, &bytes)) &&
           refused(ingraft_trainer_write(&trainer, LABELS, room, CLASSES * (FEATURES + 1), file, bytes - 1,
                                         written),
                   INGRAFT_STATUS_ROOM_TOO_SMALL) &&
           ok(ingraft_trainer_write(&trainer, LABELS, room, CLASSES * (FEATURES + 1), file, sizeof file,
                                    written)) &&
           *written == bytes && ok(ingraft_trainer_end(&trainer));
}

int main(void) {
    size_t written = 0;
    if (!bind() || !switches() || !learn(&written)) return 0;
    if (written != LENGTH(learned_adapter) || !equal(file, learned_adapter, written)) {
        say("what was learned is not what the host learns\n");
        return 0;
    }
    say_number("learned as on the host, bytes of the adapter ", written);
    if (!ok(ingraft_session_bind(&session, &plan, memory, sizeof memory)) ||
        !ok(ingraft_attach(&learned, &plan, file, written))) {
        return 0;
    }
    unsigned right = right_with(&learned);
    say_number("right with what was learned here ", right);
    return right == RIGHT_WITH_LEARNED && base_is_the_hosts();
}
