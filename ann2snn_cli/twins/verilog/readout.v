// Neurons that never fire. At every step they pass on
//     y = x + bias, at the first step also + their initial potential
// and V is the sum of y so far. A memory that the bench does not fill stays 0.
//
// Biases and initial potentials are one word for the layer, for each channel or for each neuron: a memory of
// n words gives every word to NEURONS / n neurons that follow one another.

/* verilator lint_off WIDTH */  // signed operands of several widths extend to the widest of them
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // V is read, changed and read again within one clock

module readout #(
    parameter NEURONS = 1,
    parameter X_BITS = 2,
    parameter BITS = 16,  // of V
    parameter Y_BITS = 16,
    parameter BIASES = 1,
    parameter BIAS_BITS = BITS,
    parameter INITIALS = 1,
    parameter INITIAL_BITS = BITS
) (
    input        clock,
    input        start,  // of a sample

    input                     in_valid,
    input [31:0]              in_address,
    input signed [X_BITS-1:0] in_value,

    input        turn,  // of neuron `index`
    input [31:0] index,
    input        first,  // step

    output reg                     out_valid,
    output reg [31:0]              out_address,
    output reg signed [Y_BITS-1:0] out_value,
    output reg signed [BITS-1:0]   potential  // of that neuron: for the test bench
);
    reg signed [BIAS_BITS-1:0]    bias   [0:BIASES-1];
    reg signed [INITIAL_BITS-1:0] preset [0:INITIALS-1];
    reg signed [X_BITS-1:0]       x      [0:NEURONS-1];
    reg signed [BITS-1:0]         v      [0:NEURONS-1];

    reg signed [Y_BITS-1:0] y;
    integer i;

    initial begin
        for (i = 0; i < BIASES; i = i + 1) bias[i] = 0;
        for (i = 0; i < INITIALS; i = i + 1) preset[i] = 0;
    end

    always @(posedge clock) begin
        if (start) begin
            for (i = 0; i < NEURONS; i = i + 1) x[i] = 0;
            for (i = 0; i < NEURONS; i = i + 1) v[i] = 0;
        end

        if (in_valid) x[in_address] = x[in_address] + in_value;

        out_valid <= 0;
        if (turn) begin
            y = x[index] + bias[index / (NEURONS / BIASES)];
            if (first) y = y + preset[index / (NEURONS / INITIALS)];
            v[index] = v[index] + y;
            x[index] = 0;

            out_valid <= y !== 0;
            out_address <= index;
            out_value <= y;
            potential <= v[index];
        end
    end
endmodule
