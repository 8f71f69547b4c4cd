// Multiplies every value that passes by; an event leaves in the clock in which it comes.
//
// A multiplier is one word for the layer, for each channel or for each neuron: a memory of n words gives
// every word to NEURONS / n neurons that follow one another.

/* verilator lint_off WIDTH */  // signed operands of several widths extend to the widest of them
/* verilator lint_off UNDRIVEN */  // the memory of multipliers is filled by the bench, with $readmemh

module scale #(
    parameter NEURONS = 1,
    parameter WEIGHTS = 1,
    parameter WEIGHT_BITS = 8,
    parameter BIPOLAR = 0,  // multipliers of one bit: 0 is -1, 1 is +1
    parameter X_BITS = 2,
    parameter BITS = 16
) (
    input                     in_valid,
    input [31:0]              in_address,
    input signed [X_BITS-1:0] in_value,

    output                   out_valid,
    output [31:0]            out_address,
    output signed [BITS-1:0] out_value
);
    reg signed [WEIGHT_BITS-1:0] weight [0:WEIGHTS-1];

    wire signed [WEIGHT_BITS-1:0] word = weight[in_address / (NEURONS / WEIGHTS)];

    assign out_valid = in_valid;
    assign out_address = in_address;
    assign out_value = !BIPOLAR ? word * in_value : word ? in_value : -in_value;
endmodule
