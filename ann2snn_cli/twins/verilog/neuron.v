// A population of integrate-and-fire neurons.
//
//     integrate   V <- V + 2^FRACTION_BITS * (currents of this step) + bias
//     compare     s <- 1 if V >= threshold (COMPARE_STRICTLY: V > threshold), else 0
//     reset       V <- V - s * threshold   or, where RESET_TO_ZERO,   V <- V * (1 - s)
//
// A current is added when its event arrives. Then each neuron has its turn: bias, compare, reset in a clock.
// In the population's own time there are STEPS + DELAY rounds of turns, t = 1, 2, ...
//     integrate   while t <= STEPS: currents arrive, and the bias is added
//     fire        while t > DELAY: compare and reset; spikes of t are those of step t - DELAY of its train
// DELAY = 0: every round does both (stepwise). DELAY = STEPS: first all of the input, then all spikes (layerwise).
//
// BITS is the proved width of the manifest: V never leaves it, in whatever order a step's terms are added.
// Thresholds, biases and initial potentials are one word for the layer, for each channel or for each neuron:
// a memory of n words gives every word to NEURONS / n neurons that follow one another.

/* verilator lint_off WIDTH */  // signed operands of several widths extend to the widest of them
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // V is read, changed and read again within one clock
/* verilator lint_off UNDRIVEN */  // the three parameter memories are filled by the bench, with $readmemh

module neuron #(
    parameter NEURONS = 1,
    parameter X_BITS = 2,
    parameter BITS = 16,
    parameter FRACTION_BITS = 0,
    parameter RESET_TO_ZERO = 0,
    parameter COMPARE_STRICTLY = 0,
    parameter THRESHOLDS = 1,
    parameter THRESHOLD_BITS = BITS,
    parameter BIASES = 1,
    parameter BIAS_BITS = BITS,
    parameter INITIALS = 1,
    parameter INITIAL_BITS = BITS
) (
    input clock,
    input start,  // of a sample

    input                     in_valid,
    input [31:0]              in_address,
    input signed [X_BITS-1:0] in_value,

    input        turn,  // of neuron `index`
    input [31:0] index,
    input        integrate,  // t <= STEPS
    input        fire,  // t > DELAY

    output reg                   out_valid,  // a spike
    output reg [31:0]            out_address,
    output signed [1:0]          out_value,
    output reg signed [BITS-1:0] potential  // of that neuron, after the reset: for the test bench
);
    reg signed [THRESHOLD_BITS-1:0] threshold [0:THRESHOLDS-1];
    reg signed [BIAS_BITS-1:0]      bias      [0:BIASES-1];
    reg signed [INITIAL_BITS-1:0]   preset    [0:INITIALS-1];
    reg signed [BITS-1:0]           v         [0:NEURONS-1];

    reg spike;
    reg signed [THRESHOLD_BITS-1:0] limit;
    integer i;

    assign out_value = 2'sd1;

    always @(posedge clock) begin
        if (start) for (i = 0; i < NEURONS; i = i + 1) v[i] = preset[i / (NEURONS / INITIALS)];

        if (in_valid) v[in_address] = v[in_address] + (in_value <<< FRACTION_BITS);

        out_valid <= 0;
        if (turn) begin
            limit = threshold[index / (NEURONS / THRESHOLDS)];

            if (integrate) v[index] = v[index] + bias[index / (NEURONS / BIASES)];
            spike = fire && (COMPARE_STRICTLY ? v[index] > limit : v[index] >= limit);
            if (spike) v[index] = RESET_TO_ZERO ? 0 : v[index] - limit;

            out_valid <= spike;
            out_address <= index;
            potential <= v[index];
        end
    end
endmodule
